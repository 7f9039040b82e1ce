"""The HTTP API: what the command line can do, for programs without a connection to the database.

operation   what one request may be, and who may make it     routes/     the operations, by what they are about
gate        from a request to its answer                     openapi     the document that describes them all
access      who asks: tokens, scopes, apps                   problem     what goes wrong, as problem+json
kinds       what values may be, in bodies and queries        gathering   small writes, committed together
data        connections for reading and for changing         service     the server, as a part of `scheduler run`
"""
