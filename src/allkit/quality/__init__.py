"""Looks at a set of images.

check     `check`: unreadable, duplicate, leaking, odd images
audit     `audit`: what a model that reads no cell would get
groups    groups where none are known
slides    slides where none are known
labels    labels that look wrong
marks     what is burnt in at one place
pictures  what both show of images
pages     both as HTML pages

clean        `clean`: a new folder without copies and marks
cleaned      what it returns, and its table
sorting_out  which images are kept
treatment    what is painted over or cut off, alike in every image
covered      what that hides, and in which colour
rewriting    the images, written
places       their names
corners      what the corners tell before and after
"""
