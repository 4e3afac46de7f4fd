"""Adapts a model to the slides of a laboratory, and says what that was worth.

adapt         `adapt`
fields        the images of the laboratory, as the model sees them
refit         moves the heads
align         follows the stain without labels
held_out      judges on groups that were held out
trust         what changes about detection and calibration
slide_limits  limits for unseen slides, for a model without any
"""
