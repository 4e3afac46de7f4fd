"""The workplace of a clinic: pages over `allkit.clinic`.

texts/      every sentence of the workplace, by language
words       what the model's answers are called in sentences, and which of them may be shown
"""
