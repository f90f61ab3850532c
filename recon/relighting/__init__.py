"""Pictures of a run's object from any camera in any light: `recon render`.

paths            which cameras: a turntable, those of a viewpoint set, a curve through keyframes
lights           which light: the camera's flash, a point, an environment
environment_map  equirectangular pictures of light from all sides, sampled by how bright they are
picture          one frame, in bands, so that its size does not bound the memory
exposure         how bright a picture is shown
film             frames as files, as a film
relight          all of it: the command
"""
