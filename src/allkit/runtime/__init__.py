"""Answers from an exported file, without torch.

opening  a model folder, or an exported file by its suffix and what it says of itself
inputs   what stands for one image or several
answers  from images to `Prediction`s, in constant memory
predictions  the answers for several images, as a list, a table, a page
cases    several fields, one answer
coarse   the group of classes of several fields
units    several slides, cases or folders, one answer each
graph    what every exported file of a network needs
onnx     ONNX files
wire     what lies in an ONNX file, to refuse what allkit never writes
description  what an exported file says of itself
fields   what values a description may hold
reading  files of a model, read only if they are plain files
seal     the hash and the parity report inside a file
trailer  the same behind a payload of any kind
guarded  what answers, of a plugin that derives it from nothing
signature  who vouches for a model
memory   how much memory was taken
"""
