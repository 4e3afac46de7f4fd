"""What answers are worth.

evaluate       asks a model about a set, and makes the evaluation
judged         a model's answers, before they are compared with labels
result         `Evaluation`: metrics with intervals
judged_images  the answers behind it, one row an image
confusion      the confusion matrix, which shows itself
answers        the metrics of a set of answers
exact          metrics that were the same in every resampled set
intervals      exact intervals, and their words
cases          metrics of whole cases
coarse         groups of classes: benign or malignant
units          slides or cases in place of images
compare        two models on the same images
leakage        what makes figures worth less: images, groups, fields seen in training
site_key       the secret by which the groups of a training are recognised
shortcuts      probes that read no cell
probe_words    what each probe sees, in words
parity         an exported file against its model
parity_images  the images for that
repetition     the parity report repeated on another machine
text           an evaluation for the terminal
metric_names   the names of the metrics, and what each says
plots          the plots of an evaluation
page           an evaluation as a page, and as a notebook shows it
"""
