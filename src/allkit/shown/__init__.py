"""What comes from outside, as people may be shown it.

text  on a terminal, in a spreadsheet, as JSON
html  pieces of a page, and a whole one
answer  an answer in a notebook
"""
