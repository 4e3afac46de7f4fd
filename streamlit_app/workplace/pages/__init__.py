"""The pages of the workplace: each has `show(here)`, and asks `allkit.clinic` for everything.

acting      one place where what the clinic refuses is told
common      words and cells that several pages show
pictures    the pages of a PDF as pictures
start       the first visit: try it, or open a model; what is stored where
worklist    all cases, the urgent ones first
new_case    a case by hand, or by dropping files
case        one case: its heading, and the desk on which it is read
actions     what else is done with a case
signing     the drawer in which a case is signed
report      the report of a case, its versions, and its files
reasons     the forms that ask for a reason
quality     how model and readers do in this clinic
models      the models, and which one answers
admin       people, settings, targets, backups, the audit
people      who may do what
help        how the workplace is used
"""
