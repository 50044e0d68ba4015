"""Training with real libraries, transformers and peft; what needs torch and an optimizer stands here.

`trace` follows one training step of a network without weights (`network`), for what it takes of memory;
`bounds` says which steps, `process` runs it in a process of its own.
"""
