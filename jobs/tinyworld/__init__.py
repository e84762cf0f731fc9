"""The small everyday world that the embedded toy base is taught: topics, manners, tales and their words."""
