"""A Report drawn for its readers (pure: value in, text or bytes out).

* :mod:`~pathfit.render.json` - the document of CONTRACT ("pathfit.report/1"): every key always there;
* :mod:`~pathfit.render.text` - what a person reads: verdict, what fails, both directions, why, proof, where, repair,
  next; in English or Chinese, for a given width, with or without colour, in ASCII when asked;
* :mod:`~pathfit.render.rows` - an examination in one line; :mod:`~pathfit.render.matrix` - all pairs in a table;
* :mod:`~pathfit.render.scan` - a scan; :mod:`~pathfit.render.fixing` - a repair; :mod:`~pathfit.render.overhead` - what
  encapsulations cost; :mod:`~pathfit.render.map` - the network as a picture;
* :mod:`~pathfit.render.predicted` - a forecast (:mod:`pathfit.foresight`), as text and as the same document with more;
* :mod:`~pathfit.render.followed` - a trace as text, :mod:`~pathfit.render.followed_files` as JSON and as packets,
  :mod:`~pathfit.render.followed_head` - its first sentence,
  :mod:`~pathfit.render.answered` - who made its resets and ICMP errors,
  :mod:`~pathfit.render.followed_talks` - the connections of others in it,
  :mod:`~pathfit.render.ruled` the rule of a packet filter in it;
* :mod:`~pathfit.render.command` - the asked command with one thing changed, as a line to type;
* :mod:`~pathfit.render.ways` - the two directions in one line each, :mod:`~pathfit.render.steps` - one line for one
  step;
* :mod:`~pathfit.render.repair`, :mod:`~pathfit.render.questions` - the blocks of a report about its repair, and about
  what people ask next;
* :mod:`~pathfit.render.layout` - columns, wrapping and escaping, with East Asian width (UAX #11).

Sentences are not here: they come from words/ by message id. What is here decides which of them are said, in which
order, and never says what the report does not hold.
"""
