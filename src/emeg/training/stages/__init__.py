"""The three stages of training: tokenizer, tokens of a corpus, BrainOmni."""
