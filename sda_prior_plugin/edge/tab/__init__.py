"""The prior's section of the training tab."""
