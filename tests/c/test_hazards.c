/* The tracker of hazards between the commands of an encoder. */
#include "softmetal.h"

#include <stdlib.h>

int failures;

static ml_status command(sm_hazards *h, const char *name, const char *base, uint64_t length, sm_touch touch,
                         sm_findings *found) {
    sm_access_range range = {.address = base, .length = length, .touch = touch, .buffer = 0, .label = "x"};
    EXPECT(sm_hazards_begin(h, name, NULL), ML_OK);
    EXPECT(sm_hazards_touch(h, &range), ML_OK);
    return sm_hazards_end(h, found);
}

static void test_hazards(void) {
    static const char memory[4096];
    sm_hazards *h = sm_hazards_create();
    sm_findings found = {0};
    EXPECT(command(h, "one", memory, 1024, SM_TOUCH_WRITE, &found), ML_OK);
    EXPECT(command(h, "two", memory + 1024, 1024, SM_TOUCH_WRITE, &found), ML_OK);
    EXPECT(command(h, "three", memory + 2048, 1024, SM_TOUCH_READ, &found), ML_OK);
    EXPECT(command(h, "four", memory + 2048, 1024, SM_TOUCH_READ, &found), ML_OK);
    EXPECT(found.n, 0);
    EXPECT(command(h, "five", memory + 1020, 8, SM_TOUCH_READ, &found), ML_OK);
    EXPECT(found.n, 2);
    EXPECT_TEXT(found.items[0].message, "'five' reads 4 bytes of buffer 0 'x', which the earlier 'one' writes");
    sm_findings_clear(&found);
    sm_range part = {memory, 1024};
    sm_hazards_barrier(h, &part, 1);
    EXPECT(command(h, "six", memory + 512, 512, SM_TOUCH_WRITE, &found), ML_OK);
    EXPECT(found.n, 0);
    EXPECT(command(h, "seven", memory + 2048, 1, SM_TOUCH_WRITE, &found), ML_OK);
    EXPECT(found.n, 2); /* three and four */
    sm_findings_clear(&found);
    sm_hazards_barrier(h, NULL, 0);
    EXPECT(command(h, "eight", memory, 4096, SM_TOUCH_ATOMIC, &found), ML_OK);
    EXPECT(command(h, "nine", memory, 4096, SM_TOUCH_ATOMIC, &found), ML_OK);
    EXPECT(found.n, 0);
    EXPECT(command(h, "ten", memory + 4095, 1, SM_TOUCH_READ, &found), ML_OK);
    EXPECT(found.n, 2);
    char *text = sm_findings_text(&found);
    EXPECT_TEXT(text, "error: hazard: 'ten' reads 1 bytes");
    free(text);
    sm_findings_clear(&found);
    sm_hazards_free(h);
}

int main(void) {
    test_hazards();
    printf("hazards: %d failures\n", failures);
    return failures != 0;
}
