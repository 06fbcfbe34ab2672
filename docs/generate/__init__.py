"""Pages of the reference, written from the code before Sphinx reads the sources.

``names``    public names of each room, from its ``__init__.pyi`` or ``__all__``
``options``  fields of a configuration class, nested ones included
``pages``    the pages themselves, below ``docs/reference/generated``
"""
