"""One module for each group of sections of the page: products in, plain values and drawings out."""
