"""One image: decoded, its white cells, its statistics, and whether two show the same field.

decode        the door: what is given becomes pixels, by the reader of its format
own           the formats that allkit reads itself
readers       which reader takes a file, and whether what it gives is an image
tiles         files that are never read whole: their tiles, by name
hidden        what a file holds besides pixels, by name
formats       the parts of PNG and TIFF files that make pixels
jpeg          those of JPEG files, and the damage in them that can be known
jpeg_end      whether the data of a JPEG ends where its pixels end
workload      what decoding costs, before it begins
apart         decoding in a process that can be ended
child         that process
profiles      colour profiles that are not sRGB
pixels        from what Pillow decodes to RGB with 8 bits
refusal       why an image is refused, in words
regular       the bytes of a regular file: no pipe, no device
mistaken      files that are something else than their name says
given         what one image is, for whoever answers
small         small pictures of images, to be looked at
batches       reading ahead in threads
arrays        arrays that may be larger than the memory
cells         the white cells of a field, and the tiles into which it is cut
selection     which parts of a field, and which of its cells, a network is shown
bags          what a network of cells is given of a field: tiles, and cells in them
finder        the search for white cells
ruler         the diameter of the red cells, by which all is measured
stain         how much stain is where
regions       regions of a mask: holes, parts, peaks
lobes         parts of a nucleus that belong to one cell
finders       the finders by their names, and what they find, checked
first_finder  the finder of version 1, for models that name it
statistics    light, stain and sharpness in numbers
same_field    signatures, search and comparison of images of one field
"""
