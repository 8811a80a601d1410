#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernel.h"
#define SET(name) name##_plain
#define VECTOR 16
#include "loops.h"
