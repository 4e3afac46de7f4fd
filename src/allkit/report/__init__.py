"""Pages, pictures and the model card.

pictures    plots as PNG
evaluation  the page of an evaluation
card        the model card
checklist   the reporting checklists in it
benchmark   the picture of `allkit benchmark`
"""
