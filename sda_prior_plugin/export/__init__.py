"""A prior and its codec as one TorchScript file, for programs that play such files; docs/live.md says how.

What is here is compiled by TorchScript: written in the subset of Python that it knows, with operators that libtorch 2.5
has. It draws the codes that `Prior.stream` draws. PyTorch calls TorchScript deprecated and goes on loading it; a later
format would stand beside this folder.
"""
