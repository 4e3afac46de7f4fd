"""The workplace of a clinic: pages over `allkit.clinic`.

texts/       every sentence of the workplace, by language
words        what fields, slides, jobs, models and refused files are called in sentences
telling      which part of a model's answer may be shown, and how sure it may look
limits       what a model's maker wrote about where it fails, in the user's language
bench_sheet  the one page for the bench as a PDF
"""
