# Sourced by all. Nothing is ever written to this pipe: to wait for it costs no process, unlike sleep.
exec 9<>/never
pause() { read -r -t "$1" _ <&9; }

# peek NAME FILE: the first line of a file that may vanish at any moment, in a variable.
peek() { { read -r "$1" <"$2"; } 2>/dev/null; }
