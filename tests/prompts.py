"""Twenty prompts of the kinds that people send."""

PROMPTS = (
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain in two sentences why the sky is blue.",
    "def fibonacci(n):\n    '''Return the n-th Fibonacci number.'''\n",
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. "
    "How many clips did Natalia sell altogether in April and May?",
    "Translate to French: 'The cat sleeps on the sofa.'",
    "List three uses of a paperclip.",
    "Summarise: The mitochondrion is an organelle found in most eukaryotic cells. It makes most of the "
    "cell's supply of ATP, which is used as a source of chemical energy.",
    "Wer hat die Relativitätstheorie entwickelt?",
    "¿Cuál es la montaña más alta del mundo?",
    "SELECT name, COUNT(*) FROM orders WHERE",
    "Fix the grammar: 'She don't has no apples, and him neither.'",
    "What is 17 * 23?",
    "Once upon a time, in a village at the foot of a mountain,",
    "Give me a JSON object with the keys name and age.",
    "日本の首都はどこですか？",
    "Is the following review positive or negative? 'The film was a waste of two good hours.'",
    "Name the planets of the solar system, from the inside out 🪐",
    "Dear Sir or Madam,\n\nI am writing to complain about",
    "Why do cats purr? Answer as a pirate.",
)
