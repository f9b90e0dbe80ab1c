*** Settings ***
Documentation     The firmware of every board that Renode has, with the `kilotune` command as its host:
...               renode-test tests/renode/boards.robot, with `kilotune` and arm-none-eabi-g++ on PATH.
...               The same boards run the whole device suite with pytest tests/device --target renode:BOARD.
Library           OperatingSystem
Library           Process
Test Template     Learns, And Keeps It Over A Reset

*** Variables ***
${KILOTUNE}       kilotune
${ROOT}           ${CURDIR}/../..
${LIMIT}          10 min

*** Test Cases ***                BOARD
STM32F4 Discovery                 stm32f4_discovery
Nucleo-F446RE                     nucleo_f446re
nRF52840 DK                       nrf52840dk

*** Keywords ***
Learns, And Keeps It Over A Reset
    [Arguments]                   ${board}
    Start Board                   ${board}
    ${info}=                      Tell Device    info
    Should Be Equal               ${info}[0][board]    ${board}
    Should Be Equal As Integers   ${info}[0][status][checkpoint][sequence]    0

    Tell Device                   stream    synthetic:healthy,seconds=8    --learn    --passes    2    --commit
    ${scores}=                    Tell Device    stream    synthetic:inner,seconds=2    --detect
    Should Be Equal As Integers   ${scores}[-1][windows]    5

    # A reset by the emulator: what was committed is there, with the same bits.
    Execute Command               machine Reset
    ${info}=                      Tell Device    info
    Should Be Equal As Integers   ${info}[0][status][checkpoint][sequence]    1
    Should Be Equal               ${info}[0][status][restart_cause]    outside
    ${again}=                     Tell Device    stream    synthetic:inner,seconds=2    --detect
    Should Be Equal               ${again}    ${scores}

Start Board
    [Documentation]               The firmware on a flash file of its own; its serial port on a free TCP port.
    [Arguments]                   ${board}
    ${work}=                      Evaluate    tempfile.mkdtemp(prefix="kilotune-")
    Set Test Variable             ${WORK}    ${work}
    Run Kilotune                  compile    ${ROOT}/models/vibration_ae_1k6/vibration_ae_1k6.tflite
    ...                           -o    ${WORK}/model.ktm
    ${built}=                     Run Kilotune    build    --board    ${board}
    Run Kilotune                  flash    --board    renode:${board}    --model    ${WORK}/model.ktm
    ...                           --state    ${WORK}
    ${port}=                      Evaluate    (s := socket.socket(), s.bind(("127.0.0.1", 0)), s.getsockname()[1], s.close())[2]
    Set Test Variable             ${LINE}    socket://127.0.0.1:${port}
    Execute Command               $elf=@${built}[0][firmware]
    Execute Command               $port=${port}
    Execute Command               $flash="${WORK}/renode-${board}/flash.bin"
    Execute Command               include @${ROOT}/firmware/boards/${board}/${board}.resc
    Start Emulation

Tell Device
    [Documentation]               A command to the device; gives the lines that it prints, as JSON.
    [Arguments]                   ${command}    @{arguments}
    ${answer}=                    Run Kilotune    ${command}    @{arguments}    --port    ${LINE}    --timeout    300
    RETURN                        ${answer}

Run Kilotune
    [Arguments]                   @{arguments}
    ${done}=                      Run Process    ${KILOTUNE}    @{arguments}    --json    timeout=${LIMIT}    cwd=${ROOT}
    ...                           stderr=${WORK}/stderr.txt
    ${complaint}=                 Get File    ${WORK}/stderr.txt
    Should Be Equal As Integers   ${done.rc}    0    msg=kilotune ${arguments}: ${done.stdout} ${complaint}
    ${answer}=                    Evaluate    list(map(json.loads, $done.stdout.splitlines()))
    RETURN                        ${answer}
