"""The documentation site: pages that people wrote, pages made from the source and the records, built into ``site/``.

``python -m docs.generate`` (that is ``make docs``) puts a source tree together in ``build/docs/source`` and hands it to
Sphinx. Nothing that can be made again is committed, and nothing is asked of the network.
"""
