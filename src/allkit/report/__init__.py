"""Pages, pictures and the model card.

pictures    a training, a search, an explanation as PNG
model_page  a model as a notebook shows it
card        the model card
promise     what is said where prediction sets promise nothing
checklist   the reporting checklists in it
benchmark   the picture of `allkit benchmark`
"""
