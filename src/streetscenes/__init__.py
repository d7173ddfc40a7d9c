"""Render street scenes of made-up cities, with the label of every pixel.

A *world* names the cities and says how often each object (building, tree, car, signboard, ...) stands in each city;
a world file such as `worlds/default.yaml` describes it. A *scene* is one spot of one city: a street with all its
objects, in one light. A *view* is what a camera at that spot sees under one heading: a picture and its label map.

>>> import yaml
>>> from streetscenes.view import Scene
>>> from streetscenes.world import read_world
>>> world = read_world(yaml.safe_load(open("worlds/default.yaml")))
>>> scene = Scene(world, "alder", spot=0, width=320, height=240, seed=0)
>>> picture, labels = scene.view(heading=90)
>>> picture.shape, picture.dtype, labels.shape, labels.dtype
((240, 320, 3), dtype('uint8'), (240, 320), dtype('uint8'))
>>> picture, labels = scene.view(heading=90, without={"tree"})

`python -m streetscenes worlds/default.yaml sheet.png` draws a contact sheet of views beside their label maps.

What is guaranteed:

- Labels are exact: picture and label map are painted together, from the same shapes. Labels are indices of ADE20K
  (1 to 150, `streetscenes.world.LABELS`), and every pixel has one.
- The same world, city, spot, size, seed and heading give the same bytes, with the same versions of NumPy and OpenCV
  on the same kind of processor. On another kind, about one value in 100,000 differs.
- Cities differ only in the frequencies of the world file. Light, weather, colours and sizes follow one distribution.
- Removing an object (`without`) changes no other object: each object draws from a random stream of its own.
"""
