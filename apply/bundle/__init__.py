"""The proof bundle of one plan: what is recorded of it, with everything that lets a stranger check it."""
