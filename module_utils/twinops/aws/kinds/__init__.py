"""How each kind of resource is observed and changed: one file a kind, the same functions in each.

``observe`` answers with resources in the form in which they are declared, whatever AWS calls things. ``create`` makes
what does not exist and survives being interrupted: what it left out, the next run sees as an update. ``update`` sets
the fields that the plan lists and nothing else. ``delete`` accepts that somebody was faster.
"""
