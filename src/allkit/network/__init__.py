"""The network as modules of torch.

standardise  from pixels to what a backbone is given; the views
modules      heads, branches, pooling, the whole network
covering     what covers a place while a map is made, and the answers then
pipeline     from pixels to probabilities as one module, for exporters
loading      the images of a set for the loaders of PyTorch
weights      weights from a file
hashes       hashes of tensors
device       the device that computes, by its name
calls        the modules of plugins, called; their failures named
around       the settings of the program around, put aside for a while
"""
