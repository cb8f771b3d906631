"""The command ``inn``: nouns, then verbs; a thin client of the admin API.

main.py finds the noun and loads its module only; command.py gives every verb the options that are everywhere;
client.py speaks HTTP; exits.py turns problems into exit codes; output.py prints; follow.py shows progress.
"""
