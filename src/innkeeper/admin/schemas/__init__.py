"""What the API takes and what it sends, as its OpenAPI document says it: a module a resource, as in routes/.

Unknown fields are refused, types are strict. Answers are built in views.py without these models; a test validates real
answers against them.
"""
