"""Looks at a set of images.

check   `check`: unreadable, duplicate, leaking, odd images
audit   `audit`: what a model that reads no cell would get
groups  groups where none are known
slides  slides where none are known
labels  labels that look wrong
marks   what is burnt in at one place
pages   both as HTML pages
"""
