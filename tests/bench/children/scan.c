/* Scan a WAL as sqlite.org/fileformat2.html#walformat has it: the floor. Argument: the -wal. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t big(const unsigned char *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void sum(const unsigned char *p, size_t n, int swap, uint32_t *s0, uint32_t *s1) {
  uint32_t a = *s0, b = *s1, x, y;
  for (size_t i = 0; i < n; i += 8) {
    memcpy(&x, p + i, 4);
    memcpy(&y, p + i + 4, 4);
    if (swap) {
      x = __builtin_bswap32(x);
      y = __builtin_bswap32(y);
    }
    a += x + b;
    b += y + a;
  }
  *s0 = a;
  *s1 = b;
}

int main(int argc, char **argv) {
  unsigned char head[32], *frame;
  FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
  unsigned long valid = 0, committed = 0;
  if (!file || fread(head, 1, 32, file) != 32) return 1;
  uint32_t size = big(head + 8), s0 = big(head + 24), s1 = big(head + 28);
  int swap = big(head) & 1;
  if (size < 512 || size > 65536 || !(frame = malloc(24 + size))) return 1;
  while (fread(frame, 1, 24 + size, file) == 24 + size) {
    if (memcmp(frame + 8, head + 16, 8) || !big(frame)) break;
    sum(frame, 8, swap, &s0, &s1);
    sum(frame + 24, size, swap, &s0, &s1);
    if (s0 != big(frame + 16) || s1 != big(frame + 20)) break;
    valid++;
    if (big(frame + 4)) committed = valid;
  }
  printf("[%lu, %lu]\n", valid, committed);
  return 0;
}
