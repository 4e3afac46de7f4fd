"""A classifier: what answers and explains, its folder and its description.

classifier    `Classifier`
answering     the part of it that is asked about images
info          what `model.json` holds
figures       what is kept of the validation, checked
folder        the model folder, written whole and checked
fit           whether the arrays of a folder are those that its description speaks of
parts         a classifier from the parts of a folder
provenance    what a training depends on
adaptation    the record of an adaptation
distillation  the record of a student: of which teacher, and what it loses
export        writing a file of another format
explain       explains an answer
explanation   `Explanation` and its picture
maps          HiResCAM, Grad-CAM, occlusion, cells
"""
