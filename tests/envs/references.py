"""Independent implementations of the environments' rules in Python and NumPy.

They share no code with the library. Floats are float64: where an event is too close to a rim to
decide (`margin` below 1e-4), both outcomes are correct and a comparison has to stop.
"""

import math

import numpy as np

MARGIN = 1e-4


class NumpadReference:
    """One ball, one sequence; `margin` is the smallest distance of the ball from a rim so far."""

    def __init__(self, settings, sequence, position):
        self.settings = settings
        self.sequence = list(sequence)
        self.position = [float(x) for x in position]
        self.velocity = [0.0, 0.0]
        self.lit = []
        self.last = None
        self.rewarded = set()
        self.margin = math.inf
        self.contact = self.pad_at(self.position)

    def pad_at(self, position):
        size, half = self.settings.size, self.settings.pad_half_width
        for pad in range(size * size):
            x, y = pad % size - (size - 1) / 2, pad // size - (size - 1) / 2
            gap = max(abs(position[0] - x), abs(position[1] - y))
            self.margin = min(self.margin, abs(gap - half))
            if gap < half:
                return pad
        return None

    def step(self, action):
        s = self.settings
        action = [min(1.0, max(-1.0, float(a))) for a in action]
        jumping = s.jump and action[2] > 0
        reward = 0
        for _ in range(s.substeps):
            for axis in (0, 1):
                speed = (1 - s.friction) * self.velocity[axis] + s.force * action[axis]
                place = self.position[axis] + speed
                if abs(place) > s.size / 2:
                    place, speed = math.copysign(s.size / 2, place), 0.0
                self.position[axis], self.velocity[axis] = place, speed
            pad = None if jumping else self.pad_at(self.position)
            if pad is not None and pad != self.contact:
                reward += self.press(pad)
            self.contact = pad
        return reward

    def press(self, pad):
        self.last = pad
        place = len(self.lit)
        if pad != self.sequence[place]:
            self.lit = []
            return 0
        self.lit.append(pad)
        reward = 0 if place in self.rewarded else 1
        self.rewarded.add(place)
        if len(self.lit) == len(self.sequence):
            self.lit, self.rewarded = [], set()
        return reward

    def observe(self):
        pads = [1.0 if pad in self.lit else 0.0 for pad in range(self.settings.size**2)]
        count = [1.0 if len(self.lit) == i else 0.0 for i in range(self.settings.length)]
        last = [1.0 if pad == self.last else 0.0 for pad in range(self.settings.size**2)]
        return [*self.position, *self.velocity, *pads, *count, *last]


class SemicircleReference:
    def __init__(self, settings, angle, obs):
        self.settings = settings
        self.target = (math.cos(angle), math.sin(angle))
        self.place(obs)
        self.margin = math.inf

    def place(self, obs):
        self.x, self.y = float(obs[0]), float(obs[1])
        self.heading = math.atan2(obs[2], obs[3])

    def step(self, action):
        """Returns 1 for a hit, which ends the physics of the step."""
        s = self.settings
        speed, turn = (min(1.0, max(-1.0, float(a))) for a in action)
        for _ in range(s.action_repeat):
            self.heading += turn * s.max_turn_rate * s.time_step
            self.x += speed * s.max_speed * s.time_step * math.cos(self.heading)
            self.y += speed * s.max_speed * s.time_step * math.sin(self.heading)
            self.x = min(s.arena, max(-s.arena, self.x))
            self.y = min(s.arena, max(-s.arena, self.y))
            gap = math.hypot(self.x - self.target[0], self.y - self.target[1])
            self.margin = min(self.margin, abs(gap - s.target_radius))
            if gap < s.target_radius:
                return 1.0
        return 0.0

    def observe(self):
        return [self.x, self.y, math.sin(self.heading), math.cos(self.heading)]


class NoisyTargetReference:
    def __init__(self, settings, target):
        self.settings = settings
        self.target = np.asarray(target, np.float64)
        self.position = np.zeros(2)
        self.velocity = np.zeros(2)

    def step(self, action):
        """Returns the probability of a reward."""
        s = self.settings
        for axis in (0, 1):
            speed = (1 - s.friction) * self.velocity[axis]
            speed += s.force * min(1.0, max(-1.0, float(action[axis])))
            place = self.position[axis] + speed
            if abs(place) > s.arena:
                place, speed = math.copysign(s.arena, place), 0.0
            self.position[axis], self.velocity[axis] = place, speed
        gap = s.radius * (self.position - self.target)
        return min(0.5, 1 / (1 + np.sum(gap**2)))

    def observe(self):
        s = self.settings
        return [*self.position, *(self.velocity * s.friction / s.force)]


class SparseNavigationReference:
    def __init__(self, settings, goal):
        self.settings = settings
        self.goal = np.asarray(goal, np.float64)
        self.position = np.zeros(2)
        self.margin = math.inf

    def step(self, action):
        self.position = self.position + 0.1 * np.clip(np.asarray(action, np.float64), -1, 1)
        gap = math.dist(self.position, self.goal)
        self.margin = min(self.margin, abs(gap - 0.2))
        return 1 - gap if gap <= 0.2 else 0.0

    def observe(self):
        return list(self.position)
