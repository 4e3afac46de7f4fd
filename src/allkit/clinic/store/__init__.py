"""The clinic's database and its folder of images.

tables      the tables as they are today
migrations  how a database of any earlier version becomes one of today
schema      which version a database has; making and migrating it
engine      connections that lose nothing, to SQLite and PostgreSQL
chain       the audit: rows that each hold the hash of the one before
blobs       images by content, on disk
store       transactions: who may, what is changed, what the audit says of it
backup      a copy of everything, and a clinic made from it
derived     hashes of explanations and references, which may be made anew
verify      whether everything is whole
"""
