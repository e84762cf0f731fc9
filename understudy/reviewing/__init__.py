"""A person goes through lines and samples: what is shown, how it is filtered, and what a decision writes.

    lists        the rows of tables by filter, a page at a time
    room         a recipe's rows with what was decided about them; decisions and taking them back
    drafts       drafted cards with their citations; accepting a field

serve/review.py puts it on a page. Decisions go into the overlay (understudy/overlay.py), accepted fields into the card
files of the cast; what the stages made is never changed.
"""
