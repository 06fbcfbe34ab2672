"""Downstream tasks: definition, labelled windows, folds by subject."""
