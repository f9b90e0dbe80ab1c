// Prints the loss before and after 200 training steps to the serial monitor.
#include "learn.h"

void setup() {
  Serial.begin(115200);
  const Losses losses = learn();
  Serial.print("status ");
  Serial.print(static_cast<int>(losses.status));
  Serial.print(": loss before ");
  Serial.print(losses.before);
  Serial.print(", after 200 steps ");
  Serial.println(losses.after);
}

void loop() {}
