"""Whether an answer may be accepted: verdicts, calibration, out-of-distribution detection.

verdict      `Trust`: from logits and statistics to a verdict, by tables of rules
decision     what a network gives, and the decisions about it
groups       groups of classes, and the evidence for each
slides       limits for slides that were not seen, and the verdict on a slide
unseen       fits these limits on slides that were left out
reasons      the codes of reasons and the table of their texts
space        the training images in a space, and the OOD score
ood          fits these spaces
calibration  fits temperature, prediction sets and the confidence limit
fit          fits all of it after a training
arrays       `Trust` as arrays and bytes
sound        whether stored arrays can be a `Trust`
softmax      probabilities without SciPy
"""
