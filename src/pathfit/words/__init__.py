"""Every sentence pathfit says, apart from the code that decides to say it.

``en.toml`` and ``zh.toml`` (findings), ``ui_*.toml`` (the page around them) and ``fix_*.toml`` (`pathfit fix`) hold
one template per message id, in sections. An id is "section.name"; one without a section is a note (what a measurement
remarks about itself). Templates are :meth:`str.format` texts whose names are typed facts. Both languages hold the
same ids and use the same facts; tests compare them, and bind every fact of every rule.

:mod:`~pathfit.words.render` is the only reader.
"""
