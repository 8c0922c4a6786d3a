"""Parts of an inference of a run.

``job`` says which processes do it, ``ranking`` orders the candidates, ``shortlist`` picks those that are shown, and
``columns`` describes the table.
"""
