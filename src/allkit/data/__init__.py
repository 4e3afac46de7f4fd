"""Sets of images: where they come from, what belongs together, how they are divided.

dataset     `Dataset`
samples     what its rows say, before any image is opened
split       `Split`: one division into parts
memory      images in memory, and a set as a data frame
readers     folders, zips and tables, read into rows
tables      CSV, TSV, Parquet and data frames
rows        one row an image, and what is wrong with the rest
layouts     what the levels of folders are: parts, folds, classes
folders     what the name of a folder says: a part, a fold, no class
left_out    what is not taken from folders and zips
vanished    class folders of which nothing is taken
zips        what a zip holds
sources     where the bytes are: a file, a zip, memory
listed      the images that a table or a zip lists, labels or not
written     a set as the text of a table
delimited   CSV and TSV: lines, cells, columns
text_files  texts of rows: their encoding, their lines
json_lines  JSON Lines: one object a line
values      the values of cells: numbers, dates, names in one form
missing     the words that stand for no value
labels      class names and their aliases
names       groups and slides from the names of images
slides      the slides of a set, and what is known of each class
mapping     the labels of another set (`--map`)
passes      one pass over the images, whatever is measured
columns     what was measured on each image, kept small
measures    statistics, and what cells cannot say
relations   units, fields, duplicates, leaks
dividing    who goes to which side, and who may be on none
allocation  units to sides, classes in proportion
confound    groups that coincide with classes
overview    a summary and a contact sheet
canvas      an empty figure, and what all pictures have in common
drawn       smears that the program draws
"""
