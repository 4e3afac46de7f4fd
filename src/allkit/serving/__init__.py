"""A small server: images in, answers out, over HTTP.

app          the routes
admission    reading bodies and images within limits, and asking for answers
bodies       bodies of requests: within limits of size and pace, never to disk
pace         how slow a body may come
protocol     the Open Inference Protocol: tensors to images, answers to tensors
queue        micro-batches, answered by one thread
space        how much may be inside at once
guard        what stands before every request
keys         who may ask, by keys that can change while the server runs
rates        how often each may ask
accesses     the access log, without names
connections  one connection: slow heads, broken requests, too many at once
messages     what goes to the log, a few lines a minute
metrics      what Prometheus reads
run          running until told to stop
"""
