"""Everything about using the model: from a picture of any kind to the digits in it.

How pictures are prepared, what is said of them, the command and the page. It knows the
stages' rooms; none of them knows it.
"""
