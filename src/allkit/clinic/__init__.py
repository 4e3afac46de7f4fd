"""Cases, readings, signatures and reports, kept in a database.

store       the database and the folder of images; the audit; backups
records     what travels between the parts: orders, reports
text        what a name, a number and a note may hold
access      people, roles, users
patients    pseudonyms, and the numbers of other systems
cases       a specimen of a patient: its states, its orders, who reads it
search      finding cases
fields      images that are put into a case
intake      files, folders, zips and DICOM become images without metadata
orders      orders of laboratory systems
jobs        the queue of cases to be answered
models      the models of the clinic
worker      the process that answers
explanations  why the model answered so: a reader asks, and sees what was found
asked       explanations that were asked for: taken, made, written
explaining  making the map of an explanation, and measuring whether it can be believed
references  labelled images of a model's training, to look at beside a field
view        a case as who reads it may see it
reading     classes, notes, undoing
audit       the audit for others: JSON Lines, FHIR
agreement   how far two readers agree
signing     what must hold before a signature, and what is frozen by it
identity    images, cases and numbers that turned out to be somebody else's
reporting   the frozen report of a case
reports     a frozen report in each format
mllp        sending and receiving HL7
exchange    what other systems send: orders become cases, images go where they belong
targets     systems to which signed reports are sent
outbox      signed reports on their way: queued, sent, tried again
routes      the clinic over HTTP: orders, cases, fields in
results     results and the audit over HTTP
forms       what goes over HTTP as JSON
web         who may ask over HTTP, and what an error says
arriving    what arrives at the workplace: its pace, slow connections
erasure     erasing a case
shares      shares with their number and interval
resampling  kappa with an interval over cases
drift       the model's answers from month to month
quality     overrides, calibration, agreement and drift of a clinic
overridden  fields that readers gave another class, as a data set
demo        a clinic of drawn smears that shows every page
facts       how much a clinic holds
watching    a watched folder, taken into cases
"""
