"""Arrays and results drawn as matplotlib Figures; the only room that imports matplotlib.

Every function returns a `matplotlib.figure.Figure` that no global state holds on to: a notebook shows it when it is the
cell's last value, a script saves it with `figure.savefig("name.png")`.
"""

from recipes.plot.curves import curves as curves
from recipes.plot.grid import grid as grid
from recipes.plot.overlay import blend as blend
from recipes.plot.overlay import overlay as overlay
