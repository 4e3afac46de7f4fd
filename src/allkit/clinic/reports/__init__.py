"""A frozen report in each format.

formats     the formats by name, and `render`
wording     the sentences, counts and orders that every format shows alike
library     the libraries of the extra `clinic`, imported when they are needed
pdf         the A4 page for people: what stands in which order
sheet       the sheet of paper: fonts, flow over pages, rows, images
glyphs      which characters the bundled fonts can print
tables      CSV and Excel
fhir        an R4 Bundle
fhir_check  our own check of a Bundle
hl7         a version 2.5.1 message ORU^R01
sr          a DICOM structured report
"""
