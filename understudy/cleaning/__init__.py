"""Cleaning: rules that drop or mend what should not be learned, each counted with examples.

    config       what each rule is set to in a recipe (`curate.clean`), and which sources it looks at
    sound        rows that are no conversation at all
    text_rules   one answer at a time: labels, markup, stubs, quotes, length, leaked prompts, language, personal data
    near         near-duplicates by MinHash
    overlap      what of the held-out set occurs in training
    tally        counts, examples and dropped rows

A source is where a conversation comes from: `lines` of a work, `imported` conversations, `generated` by a model, and
general dialogue `mixed` in. By default no rule but those of `curate` itself looks at lines: what an author wrote is
right as it is.
"""
