"""What comes in: files, folders, zips and DICOM become images without metadata; orders are read.

sniff     what a file is, by its content
unpack    each image and each order in a file, a folder or a zip, and what was refused
incoming  an image as it will be stored: pixels only
watch     a watched folder
"""
