"""Temperature scaling on a file of labelled tokens: T* is fitted on one half and judged on the other."""
