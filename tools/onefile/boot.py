class _Inside:
    """Imports the modules of this file, before any that may be installed under the same names."""

    def find_spec(self, name, path=None, target=None):
        if name not in MODULES:
            return None
        package = name in PACKAGES
        where = "/".join([HERE, *name.split(".")]) + ("/__init__.py" if package else ".py")
        spec = importlib.machinery.ModuleSpec(name, self, origin=where, is_package=package)
        spec.has_location = True
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(MODULES[module.__name__], module.__spec__.origin, "exec", 0, True), module.__dict__)

    def get_source(self, name):
        return MODULES[name]

    def get_data(self, path):
        try:
            return WORDS[path].encode()
        except KeyError:
            raise FileNotFoundError(path) from None


if sys.version_info < (3, 8):
    sys.exit("pathfit-probe: needs Python 3.8 or newer\ntry: python3 --version")
sys.meta_path.insert(0, _Inside())
if not hasattr(select, "EPOLLRDHUP"):  # PyPy has no name for it
    select.EPOLLRDHUP = 0x2000  # include/uapi/linux/eventpoll.h

if __name__ == "__main__":
    from pathfit.cli.alone import main

    sys.exit(main())
# end of the file: what reads it from a pipe that stays open stops here
