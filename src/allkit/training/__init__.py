"""Makes a classifier.

trainer      `Trainer`: what happens in a training, in order
backbone     the backbone before it learns, and how images are shown to it
inputs       features and activations, in the one pass that `trainer` asks for
workload     several passes, told as one piece of work
division     who is learnt from, and who is kept to judge
session      trains the members and asks them
logistic     a head on features as a logistic regression, without steps
plan         how one phase goes
own          what is given as objects: a module, functions, callbacks
facts        what a training depends on
augmented    images as its augmentations change them
own_augment  an augmentation of the user's own
optimising   the optimiser, and the learning rate of each step
loop         one phase of one member
loop_state   what its next step depends on
failures     what ended it, in words
objective    losses and class weights
member       last stages, adapters and a head
averaging    a moving average of the weights
seeds        every random draw, by its place
sources      where the inputs of a step come from
calibrating  further held-out answers for calibration
left_out     the answers on slides that are left out in turn
teacher      what a student learns in place of the labels
distilling   a small student of a model, and what it loses
description  what is saved about the model
run          the run folder, to take a training up again
finished     a training that was finished before
finders      learning rate and batch size by trying
tuning       the search for settings
space        what is searched, from where to where
trials       one trial, and how Optuna is told of it
importance   what a search shows beyond chance
unseen       leave one group out
reproduce    training again, and comparing
log          metrics of every epoch
device       precision, processes, threads
memory       whether memory suffices
"""

from allkit.training.description import HeldOut
from allkit.training.plan import Epoch
from allkit.training.trainer import Trainer

__all__ = ["Epoch", "HeldOut", "Trainer"]
