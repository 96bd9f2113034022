"""The network of one machine or many as a picture (pure: snapshots in, text or bytes out).

* :mod:`~pathfit.render.map.graph` - the map as a value: hosts, namespaces, devices, edges, ways;
* :mod:`~pathfit.render.map.build` - a joined Network to that value; :mod:`~pathfit.render.map.ways` - a predicted
  way laid over its devices;
* :mod:`~pathfit.render.map.shapes` - what looks alike is drawn once: forty containers on one bridge are one box;
* :mod:`~pathfit.render.map.text`, :mod:`~pathfit.render.map.document` (JSON, docs/map.md), and
  :mod:`~pathfit.render.map.page` - one HTML file that needs nothing else, drawn by :mod:`~pathfit.render.map.drawing`
  (SVG) on :mod:`~pathfit.render.map.placing` (``boxed`` a namespace's inside, ``hosted`` a host's, ``ranks`` which
  column, ``measures`` in pixels) and :mod:`~pathfit.render.map.layers` (a layered layout, after Sugiyama);
* :mod:`~pathfit.render.map.speech` - what text and page say alike.

The map says what is there. It judges nothing: a remark is a fact of state, and a limit is marked where the model
says a packet of the asked path meets it.
"""
