# Sourced by bin/up and bin/test: puts a Python that can run Huidu into $python, or says what is missing.
# Python 3.11 comes first: it is the version the tests run on. HUIDU_PYTHON names another one.

python=
seen=
for candidate in ${HUIDU_PYTHON:+"$HUIDU_PYTHON"} python3.11 python3 python3.12 python3.13 python3.14; do
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $version in
        3.1[1-9] | 3.[2-9][0-9]) python=$candidate; break ;;
    esac
    seen="$seen $candidate is $version;"
done
if [ -z "$python" ]; then
    echo "Huidu needs Python 3.11 or newer.${seen:+ Found:$seen}" >&2
    echo "Install one so that python3.11 or python3 runs it, or name it: HUIDU_PYTHON=/path/to/python3 $0" >&2
    exit 1
fi
