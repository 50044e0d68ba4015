"""The one native piece: products of 4-bit and 8-bit blocks, a whole decoding step around them, and its draws.

`simd.h`, `team.h`, `blocks.*`, `attention.h`, `step.*`, `distribution.*` and `api.cpp` are plain C++ without
PyTorch's headers. `build` compiles them for this machine and keeps the result; `library` calls it; `operator`
makes the product known to PyTorch.
"""
